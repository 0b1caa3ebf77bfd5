"""`python -m crosswind`."""

from crosswind.cli import main

if __name__ == "__main__":
    main()
