"""`python -m transformer VERB ...`."""

from transformer.cli.main import main

if __name__ == "__main__":
    main()
