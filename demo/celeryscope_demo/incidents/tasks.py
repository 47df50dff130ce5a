"""Tasks that fail, hang, leak, grow or come in masses. Each is a switch that tasks and the load look at."""

from celeryscope_demo.incidents import HEAVY, REDELIVERY, Incident

INCIDENTS = (
    Incident(
        "backlog",
        "More work arrives than the workers can do: a campaign sends its notifications as urgent work.",
        "celery_queue_length of demo-urgent grows, its oldest task "
        "(time() - celery_queue_oldest_task_timestamp_seconds) passes celery_queue_wait_objective_seconds, and "
        "celery_task_wait_seconds of everything in that queue with it. No task fails. RabbitMQ tells no oldest task.",
    ),
    Incident(
        "error-spike",
        "A third of a task's runs and more fail with an error that is well known: somebody sends bad input.",
        "celery_task_failed_total of comments.screen beside celery_task_started_total, "
        'celery_task_exceptions_total{exception="MalformedComment"}.',
    ),
    Incident(
        "new-exception",
        "A task fails with an error that was never seen before: most often since the last release.",
        'A new series: celery_task_exceptions_total{task="comments.screen", exception="ModelOutdated"}. It begins with '
        "its first failure, so increase() does not see that one.",
    ),
    Incident(
        "retry-storm",
        "Every call to a third party is refused, and every refused call comes back as a retry.",
        "celery_task_retried_total of webhooks.deliver rises to more than half of its celery_task_started_total, "
        'celery_tasks_in_flight{state="scheduled"} and celery_worker_tasks_scheduled grow, and '
        "celery_task_failed_total once the retries are used up.",
        part=REDELIVERY,
    ),
    Incident(
        "slow-down",
        "A task takes twelve times as long as yesterday: an index is missing, a machine is overcommitted.",
        "celery_task_runtime_seconds of comments.screen: from a fraction of a second to more than one. No task fails.",
    ),
    Incident(
        "memory-leak",
        "A task keeps memory from run to run, and the worker replaces its processes one after the other.",
        "celery_worker_child_replacements_total of demo-general rises with every few tasks instead of every two "
        "hundred (celery_worker_tasks_processed_total).",
    ),
    Incident(
        "process-killed",
        "The kernel kills a pool process for want of memory, under the task that it runs.",
        'celery_task_exceptions_total{task="videos.transcode", exception="WorkerLostError"}, '
        "celery_task_failed_total, celery_worker_child_replacements_total. The worker itself stays up.",
    ),
    Incident(
        "poison-task",
        "A producer sends a task that no worker knows: it was deployed first, or the name is misspelt.",
        'celery_task_exceptions_total{exception="NotRegistered"} of comments.translate, which is sent '
        "(celery_task_sent_total) and fails (celery_task_failed_total) and never starts. The messages are gone.",
    ),
    Incident(
        "deploy-skew",
        "Producers run the next release already and pass an argument that the workers' release does not know.",
        'celery_task_exceptions_total{task="comments.screen", exception="TypeError"}: those of the new producers fail '
        "at once, those of the old ones go on.",
    ),
    Incident(
        "expired",
        "Tasks expire before they are due: work that is silently lost.",
        'celery_task_revoked_total{reason="expired"} of presence.refresh. Nothing fails, nothing is started.',
    ),
    Incident(
        "big-messages",
        "Somebody sends contents instead of names: messages of hundreds of kilobytes wait in a queue.",
        "celery_queue_head_message_bytes of demo-heavy is above 256 kB while celery_queue_length grows; "
        "celery_broker_memory_used_bytes grows with them. RabbitMQ tells no head: there it is celery_queue_bytes.",
        part=HEAVY,
    ),
    Incident(
        "soft-limit-blocked",
        "One long call into C hears no soft time limit, so the hard limit kills the process.",
        'celery_task_exceptions_total{task="passwords.rehash", exception="TimeLimitExceeded"} without '
        "SoftTimeLimitExceeded before it, and celery_worker_child_replacements_total.",
    ),
    Incident(
        "solo-busy",
        "A long task occupies a solo worker, which neither beats nor answers before it is done.",
        "celery_worker_last_heartbeat_timestamp_seconds of demo-heavy gets old while celery_worker_up stays 1: "
        "a solo worker is waited for. celery_queue_length of demo-heavy grows.",
        seconds=90.0,
        part=HEAVY,
    ),
)
