"""`python -m litehrnet_cuda` is the command `litehrnet`."""

import sys

from litehrnet_cuda.cli.main import main

sys.exit(main())
