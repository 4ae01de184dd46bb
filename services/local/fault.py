class LocalFault(Exception):  # noqa: N818 - not always an error of ours: a taken port, a missing program
    """Why the machine's parts cannot run, in words for the person at the terminal."""
