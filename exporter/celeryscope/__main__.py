"""`python -m celeryscope` is the command `celeryscope`."""

from celeryscope.cli import main

if __name__ == "__main__":
    main()
