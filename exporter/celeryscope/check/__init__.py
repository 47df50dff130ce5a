"""`celeryscope check`: one look at a cluster, judged.

`look` collects facts in bounded time, from the event stream, the workers and the broker at once. The families judge
them, each check a pure function of the facts: `events`, `workers`, `tasks`, `queues`, `delivery`, `broker`, `project`.
`render` shows what they found.
"""
