"""Whether the broker keeps what it is given, and from whom it keeps it."""

from collections.abc import Iterator
from ipaddress import ip_address

from celeryscope.check.facts import Facts
from celeryscope.check.model import Check, Found, Severity, counted, named, size, some, subject_of

REDIS = frozenset({"redis", "rediss", "sentinel"})
PLAIN_OR_TLS = REDIS | {"amqp", "amqps"}  # transports where a worker's `ssl` says which
MEMORY_BAD = 0.85  # share of the limit, as the alert has it
MEMORY_WORST = 0.95


def eviction_policy(facts: Facts) -> Iterator[Found]:
    """A limit of memory and leave to throw keys away."""
    broker = facts.broker
    if broker is None or broker.memory_max is None or broker.eviction_policy in {None, "noeviction"}:
        return
    told = f"maxmemory is {size(broker.memory_max)}, maxmemory-policy is {broker.eviction_policy}"
    if broker.evicted_keys:
        told += f"; {counted(broker.evicted_keys, 'key')} evicted since its start"
    # Queues have no time to live: policies of volatile keys spare them.
    spares = str(broker.eviction_policy).startswith("volatile-")
    yield Found("broker", told, Severity.WARNING if spares else Severity.ERROR)


def memory_headroom(facts: Facts) -> Iterator[Found]:
    """Memory in use near the limit."""
    broker = facts.broker
    if broker is None or not broker.memory_max or broker.memory_used is None:
        return
    share = broker.memory_used / broker.memory_max
    if share > MEMORY_BAD:
        yield Found(
            "broker",
            f"{size(broker.memory_used)} of {size(broker.memory_max)} in use, {share:.0%}",
            Severity.ERROR if share > MEMORY_WORST else Severity.WARNING,
        )


def memory_unlimited(facts: Facts) -> Iterator[Found]:
    """Redis without a limit of memory."""
    broker = facts.broker
    if facts.transport in REDIS and broker is not None and broker.memory_used is not None and broker.memory_max is None:
        yield Found("broker", f"maxmemory is 0, {size(broker.memory_used)} in use")


def broker_alarm(facts: Facts) -> Iterator[Found]:
    """RabbitMQ's alarms."""
    raised = sorted(name for name, on in (facts.broker.alarms if facts.broker else {}).items() if on)
    if raised:
        yield Found("broker", f"alarm of {some(raised)} is raised")


def broker_without_tls(facts: Facts) -> Iterator[Found]:
    """Workers that reach the broker over a network in clear."""
    names = [
        worker.name
        for worker in facts.answered
        if facts.transport in PLAIN_OR_TLS
        and worker.broker is not None
        and worker.broker.tls is False
        and worker.broker.host is not None
        and not is_local(worker.broker.host)
    ]
    if names:
        hosts = {worker.broker.host for worker in facts.answered if worker.broker and worker.name in names}
        yield Found(subject_of("worker", names), named(f"no TLS on the way to {some(filter(None, hosts))}", names))


def broker_without_password(facts: Facts) -> Iterator[Found]:
    """A broker that let us in without a password, over a network."""
    if facts.transport in REDIS and not facts.local and not facts.credentials and facts.broker is not None:
        yield Found("broker", f"{facts.address} let us in without user, password or certificate")


def is_local(host: str) -> bool:
    """Whether a host's name is this machine itself, or a socket's path."""
    # kombu takes the whole URL of a socket, redis+socket:///run/redis.sock, for a host.
    if host in {"", "localhost", "localhost.localdomain"} or host.startswith("/") or "socket://" in host:
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


CHECKS = (
    Check(
        "broker-alarm",
        "RabbitMQ has raised an alarm",
        (Severity.ERROR,),
        "it takes no messages from anybody until the alarm is over: publishers hang",
        "rabbitmq-diagnostics alarms; more memory (vm_memory_high_watermark) or disk (disk_free_limit), fewer messages",
        broker_alarm,
    ),
    Check(
        "eviction-policy",
        "the broker may throw tasks away",
        (Severity.ERROR, Severity.WARNING),
        "when memory is full it deletes keys, whole queues among them; a volatile- policy deletes results",
        "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        eviction_policy,
    ),
    Check(
        "memory-headroom",
        "the broker's memory is nearly full",
        (Severity.WARNING, Severity.ERROR),
        "when it is, publishing fails (noeviction), or tasks are deleted",
        "raise maxmemory (RabbitMQ: vm_memory_high_watermark), shorten result_expires, work off or purge what waits",
        memory_headroom,
    ),
    Check(
        "broker-without-tls",
        "messages cross the network in clear",
        (Severity.WARNING,),
        "whoever sees the traffic reads passwords and arguments, and can send tasks",
        "rediss:// or amqps:// in broker_url, with ssl_cert_reqs=required; nothing, if a tunnel or a mesh encrypts",
        broker_without_tls,
    ),
    Check(
        "broker-without-password",
        "the broker asks for no password",
        (Severity.WARNING,),
        "whoever reaches its port reads every argument, deletes queues and sends tasks",
        "ACL SETUSER or requirepass on the server, and redis://USER:PASSWORD@HOST in broker_url",
        broker_without_password,
    ),
    Check(
        "memory-unlimited",
        "the broker has no limit of memory",
        (Severity.INFO,),
        "a backlog may take all of the machine's, and the system kills the broker",
        "CONFIG SET maxmemory, below the machine's memory, with maxmemory-policy noeviction",
        memory_unlimited,
    ),
)
