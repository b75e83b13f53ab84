"""`python -m ecg_digitize` is the command `ecg-digitize`."""

import sys

from ecg_digitize.cli import main

if __name__ == "__main__":
    sys.exit(main())
