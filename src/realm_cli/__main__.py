"""`python -m realm_cli`."""

import sys

from realm_cli.cli.app import main

sys.exit(main())
