"""Every workload. A worker that imports this knows every task."""

from celeryscope_demo.workloads import Workload, posts

WORKLOADS: tuple[Workload, ...] = (*posts.WORKLOADS,)
