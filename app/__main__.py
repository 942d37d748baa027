"""`python -m maskedit.app`: the command line, for launchers that start modules, such as accelerate's and torchrun."""

from .cli import main

if __name__ == "__main__":
    main()
