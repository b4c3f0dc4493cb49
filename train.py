"""Train, validate, test or predict: ``python train.py --config cityscapes.yaml``."""

import sys

from deformsample.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
