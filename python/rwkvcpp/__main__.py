"""`python -m rwkvcpp` is `rwkvcpp`."""

import sys

from rwkvcpp.cli import main

sys.exit(main())
