"""What an expression does to labels: which it selects, keeps and joins on, and whether two replicas count as one.

The parser is the one of PyPI's promql-parser; what labels a result has is inferred here, from the catalog and from the
recording rules.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import promql_parser as ast

from celeryscope.metrics.catalog import ALL, Kind
from celeryscope.rules import recording
from celeryscope.rules.model import Record
from celeryscope.rules.settings import Settings

TARGET = frozenset({"job", "instance"})  # of whatever is scraped
NONE: frozenset[str] = frozenset()
COUNTERS = {"rate", "irate", "increase", "resets"}  # functions of counters
GAUGES = {"delta", "idelta", "deriv", "predict_linear", "holt_winters"}  # functions of gauges
LARGEST = {"max", "min"}  # what makes one of two replicas
KEEPS_ALL = {"topk", "bottomk"}  # aggregations that keep labels unless told otherwise
KEEP_LEFT = {"and", "unless", "==", "!=", "<", "<=", ">", ">="}  # operators that say which series of the left stay
KEEPING = {"last_over_time", "sort", "sort_desc", "label_replace", "label_join"}  # functions that keep names
BIRTH = "birth"  # where it stands: X unless X offset 5m, which are the series that are new
ADDS_UP = {"sum", "count"}
NO_VECTOR = {"scalar", "time", "pi"}


@dataclass(frozen=True)
class Series:
    """What is known of a name."""

    labels: frozenset[str]
    counter: bool = False


@dataclass(frozen=True)
class Vector:
    """What is known of a result. `fixed` labels have one value only; `split` holds task metrics of which replicas
    were made one for each queue, where one may say `unknown` and the other the queue's name."""

    labels: frozenset[str]
    fixed: frozenset[str] = NONE
    split: frozenset[str] = NONE


def exported() -> dict[str, Series]:
    """What the exporter shows, by the names of its samples."""
    found = {}
    for spec in ALL:
        labels = TARGET | set(spec.labels)
        if spec.kind is Kind.HISTOGRAM:
            found[f"{spec.name}_bucket"] = Series(labels | {"le"}, counter=True)
            found[f"{spec.name}_sum"] = found[f"{spec.name}_count"] = Series(labels, counter=True)
        else:
            found[spec.name] = Series(labels, counter=spec.kind is Kind.COUNTER)
    return found


def foreign() -> dict[str, Series]:
    """What every target and every process tells of itself, and what Prometheus makes of alerts."""
    # An alert of an exporter is of one instance; all others are of none.
    alerts = {"job", "alertname", "alertstate", "severity", "component", "queue", "task", "worker", "slo"}
    gauges = ("up", "scrape_duration_seconds", "scrape_samples_scraped", "process_resident_memory_bytes",
              "process_virtual_memory_bytes", "process_open_fds", "process_max_fds",
              "process_start_time_seconds")  # fmt: skip
    found = {name: Series(TARGET) for name in gauges}
    found["process_cpu_seconds_total"] = Series(TARGET, counter=True)
    found["python_gc_collections_total"] = Series(TARGET | {"generation"}, counter=True)
    found["ALERTS"] = Series(frozenset(alerts))
    found["ALERTS_FOR_STATE"] = Series(frozenset(alerts - {"alertstate"}))
    return found


def known() -> dict[str, Series]:
    """All names that a query may have, the recorded ones with the labels that their rules keep."""
    names = exported() | foreign()
    for group in recording.groups(Settings()):
        for rule in group.rules:
            if isinstance(rule, Record):
                # A rule that goes on with its own last value has to find it.
                names.setdefault(rule.name, Series(frozenset(rule.name.partition(":")[0].split("_"))))
                analysis = Analysis(names)
                names[rule.name] = Series(analysis.of(ast.parse(rule.expr)).labels)
                if analysis.complaints:
                    raise AssertionError(f"{rule.name}: {analysis.complaints}")
    return names


def nodes(expr: ast.Expr) -> Iterator[ast.Expr]:
    """Every part of an expression, from the outside in."""
    found: list[ast.Expr] = []

    def note(node: ast.Expr) -> None:
        found.append(node)

    ast.walk(expr, pre_visit=note)
    yield from found


def selectors(expr: ast.Expr) -> Iterator[ast.VectorSelector]:
    """Every selector, those of ranges included."""
    for node in nodes(expr):
        if isinstance(node, ast.MatrixSelector):
            yield node.vector_selector
        elif isinstance(node, ast.VectorSelector):
            yield node


def matchers(selector: ast.VectorSelector) -> Sequence[ast.Matcher]:
    found: Sequence[ast.Matcher] = [matcher for matcher in selector.matchers.matchers if matcher.name != "__name__"]
    return found


@dataclass
class Analysis:
    """Infers a result's labels, and notes what is wrong on the way.

    `anything`: a selector by itself, as variables have them, may be of a counter.
    """

    names: Mapping[str, Series]
    anything: bool = False
    complaints: list[str] = field(default_factory=list)

    def of(self, expr: ast.Expr, function: str = "") -> Vector:
        """The result of an expression that stands as an argument of `function`; a number has no labels."""
        match expr:
            case ast.ParenExpr() | ast.UnaryExpr():
                return self.of(expr.expr, function)
            case ast.VectorSelector():
                return self._selected(expr, function, ranged=False)
            case ast.MatrixSelector():
                return self._selected(expr.vector_selector, function, ranged=True)
            case ast.SubqueryExpr():
                if function in COUNTERS:
                    self._complain(f"{function}() of a subquery")
                return self.of(expr.expr)
            case ast.Call():
                return self._called(expr)
            case ast.AggregateExpr():
                return self._aggregated(expr)
            case ast.BinaryExpr():
                return self._joined(expr)
        return Vector(NONE)

    def _complain(self, text: str) -> None:
        self.complaints.append(text)

    def _selected(self, selector: ast.VectorSelector, function: str, *, ranged: bool) -> Vector:
        name = selector.name
        if name is None or name not in self.names:
            self._complain(f"{name} is neither exported nor recorded")
            return Vector(NONE)
        series = self.names[name]
        for matcher in matchers(selector):
            if matcher.name not in series.labels:
                self._complain(f"{name} has no label {matcher.name}")
        if series.counter and not ((ranged and function in COUNTERS) or function == BIRTH or self.anything):
            self._complain(f"the counter {name} stands outside rate, increase and resets")
        if not series.counter and function in COUNTERS:
            self._complain(f"{function}() of the gauge {name}")
        if series.counter and function in GAUGES:
            self._complain(f"{function}() of the counter {name}")
        fixed = {found.name for found in matchers(selector) if found.op == ast.MatchOp.Equal}
        return Vector(series.labels, frozenset(fixed))

    def _called(self, call: ast.Call) -> Vector:
        name = call.func.name
        if name in {"absent", "absent_over_time"}:
            found = {matcher.name for part in call.args for leaf in selectors(part) for matcher in matchers(leaf)}
            return Vector(frozenset(found))
        arguments = [self.of(argument, name) for argument in call.args]
        if name in NO_VECTOR or not arguments:
            return Vector(NONE)
        vectors = [found for found in arguments if found.labels]
        vector = vectors[0] if vectors else Vector(NONE)
        texts = [argument.val for argument in call.args if isinstance(argument, ast.StringLiteral)]
        match name:
            case "histogram_quantile":
                if "le" not in vector.labels:
                    self._complain("histogram_quantile() of what has no le")
                return Vector(vector.labels - {"le"}, vector.fixed, vector.split)
            case "label_replace":
                target, _, source, _ = texts
                if source and source not in vector.labels:
                    self._complain(f"label_replace() from {source}, which is not there")
                return Vector(vector.labels | {target}, vector.fixed, vector.split)
            case "label_join":
                target, _, *sources = texts
                if not set(sources) <= vector.labels:
                    self._complain(f"label_join() of {sources}, not all of which are there")
                return Vector(vector.labels | {target}, vector.fixed, vector.split)
        return vector

    def _aggregated(self, aggregation: ast.AggregateExpr) -> Vector:
        inner = self.of(aggregation.expr)
        operator = str(aggregation.op)
        modifier = aggregation.modifier
        if modifier is None:
            labels = inner.labels if operator in KEEPS_ALL else NONE
        else:
            named = set(modifier.labels)
            if not named <= inner.labels:
                self._complain(f"{operator} over {sorted(named - inner.labels)}, which {aggregation.expr} has not")
            by = modifier.type == ast.AggModifierType.By
            labels = inner.labels if operator in KEEPS_ALL else frozenset(named if by else inner.labels - named)
        lost = inner.labels - labels
        if "le" in lost - inner.fixed and any((leaf.name or "").endswith("_bucket") for leaf in selectors(aggregation)):
            self._complain(f"{operator} loses le")
        split = inner.split
        if "instance" in lost:
            if operator not in LARGEST:
                self._complain(f"{operator} over replicas: {aggregation.expr}")
            if "job" in lost and _adds_up(aggregation.expr):
                self._complain(f"{operator} makes one of different jobs, not only of replicas: {aggregation.expr}")
            if "queue" in labels:
                split |= {leaf.name or "" for leaf in selectors(aggregation) if _of_tasks(leaf)}
        elif split and "queue" in lost and operator not in LARGEST:
            self._complain(f"{operator} of {sorted(split)}: replicas may name queues differently, sum each one first")
        return Vector(labels, inner.fixed & labels, split if "queue" in labels else NONE)

    def _joined(self, binary: ast.BinaryExpr) -> Vector:
        function = BIRTH if _is_birth(binary) else ""
        left, right = self.of(binary.lhs, function), self.of(binary.rhs, function)
        if _is_number(binary.lhs) or _is_number(binary.rhs):
            return left if _is_number(binary.rhs) else right
        operator = str(binary.op)
        modifier = binary.modifier
        split = left.split | right.split
        matching = modifier.matching if modifier is not None else None
        both = left.labels & right.labels
        if matching is None:
            shared = both
            if operator != "or" and left.labels != right.labels:
                self._complain(f"{operator} of {sorted(left.labels)} and {sorted(right.labels)} never match")
        elif matching.type == ast.LabelModifierType.Include:
            shared = frozenset(matching.labels)
            if not shared <= both:
                self._complain(f"{operator} on {sorted(shared - both)}, which not both sides have")
        else:
            shared = both - set(matching.labels)
            if (left.labels ^ right.labels) - set(matching.labels):
                self._complain(f"{operator} of {sorted(left.labels)} and {sorted(right.labels)} never match")
        if operator in {"and", "unless"}:
            return left
        if operator == "or":
            return Vector(left.labels | right.labels, left.fixed & right.fixed, split)
        assert modifier is not None or matching is None
        cardinality = ast.VectorMatchCardinality.OneToOne if modifier is None else modifier.card
        many, one = (right, left) if cardinality == ast.VectorMatchCardinality.OneToMany else (left, right)
        several = {"job", "instance"} - shared
        if one.labels & several - one.fixed:
            self._complain(f"{operator} of what may be there once for each {sorted(one.labels & several)}")
        if modifier is None:
            return Vector(left.labels, left.fixed, split)
        if cardinality == ast.VectorMatchCardinality.OneToOne:
            if many.labels & several - many.fixed:
                self._complain(f"{operator} of what may be there once for each {sorted(many.labels & several)}")
            labels = shared if matching is not None else left.labels
            return Vector(labels, left.fixed & labels, split)
        extra = frozenset(modifier.group_labels or ())
        if not extra <= one.labels:
            self._complain(f"group_left ({sorted(extra - one.labels)}), which the one side has not")
        return Vector(many.labels | extra, many.fixed, split)


def keeps_name(expr: Any) -> bool:
    """Whether series of a result are still called what a metric is called."""
    match _bare(expr):
        case ast.VectorSelector() | ast.MatrixSelector():
            return True
        case ast.AggregateExpr() as found:
            return str(found.op) in KEEPS_ALL and keeps_name(found.expr)
        case ast.BinaryExpr() as found if str(found.op) in KEEP_LEFT and not _is_number(found.lhs):
            return keeps_name(found.lhs)
        case ast.BinaryExpr() as found if str(found.op) in KEEP_LEFT | {"or"}:
            return keeps_name(found.lhs) or keeps_name(found.rhs)
        case ast.Call() as found if found.func.name in KEEPING:
            return any(map(keeps_name, found.args))
    return False


def _of_tasks(selector: ast.VectorSelector) -> bool:
    return (selector.name or "").startswith("celery_task_")


def _bare(expr: Any) -> Any:
    while isinstance(expr, ast.ParenExpr):
        expr = expr.expr
    return expr


def _adds_up(expr: ast.Expr) -> bool:
    inner = _bare(expr)
    return isinstance(inner, ast.AggregateExpr) and str(inner.op) in ADDS_UP


def _is_birth(binary: ast.BinaryExpr) -> bool:
    new, old = _bare(binary.lhs), _bare(binary.rhs)
    if str(binary.op) != "unless" or not all(isinstance(part, ast.VectorSelector) for part in (new, old)):
        return False
    return new.name == old.name and str(new.matchers) == str(old.matchers) and bool(old.offset) and not new.offset


def chosen(expr: ast.Expr) -> Iterator[ast.VectorSelector]:
    """The selectors whose series are shown; not those that only say which are kept, right of `and` and `unless`."""
    match expr:
        case ast.VectorSelector():
            yield expr
        case ast.MatrixSelector():
            yield expr.vector_selector
        case ast.BinaryExpr():
            yield from chosen(expr.lhs)
            if str(expr.op) not in {"and", "unless"}:
                yield from chosen(expr.rhs)
        case ast.Call():
            for argument in expr.args:
                yield from chosen(argument)
        case ast.ParenExpr() | ast.UnaryExpr() | ast.SubqueryExpr() | ast.AggregateExpr():
            yield from chosen(expr.expr)


def _is_number(expr: Any) -> bool:
    while isinstance(expr, ast.ParenExpr | ast.UnaryExpr):
        expr = expr.expr
    if isinstance(expr, ast.BinaryExpr):
        return _is_number(expr.lhs) and _is_number(expr.rhs)
    return isinstance(expr, ast.NumberLiteral) or (isinstance(expr, ast.Call) and expr.func.name in NO_VECTOR)
