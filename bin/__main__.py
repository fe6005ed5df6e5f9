"""What bin/up runs, as `python bin`, once everything is installed."""

from embedded.up import main

if __name__ == "__main__":
    main()
