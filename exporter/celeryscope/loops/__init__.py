"""What the threads of a monitor do, again and again: each joins one source of facts, or one duty, to the tracker."""
