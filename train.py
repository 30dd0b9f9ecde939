"""Trains a model: the same as `transformer train`, for those who run a clone. `python train.py --help` tells more."""

import sys

from transformer.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
