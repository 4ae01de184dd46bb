"""`python -m services.local.prepare`: all that the first start would else have to wait for."""

import sys

from rich.console import Console

from services.local import kafka
from services.local.fault import LocalFault
from services.local.jars import class_path

if __name__ == "__main__":
    try:
        class_path()
        with Console(stderr=True).status("Preparing Kafka, once"):
            kafka.prepare()
    except LocalFault as fault:
        sys.exit(str(fault))
