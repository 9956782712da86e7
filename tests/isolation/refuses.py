"""A module whose import fails, or ends its process."""

import os

if os.environ.get("LEAVE_WHILE_LOADING"):
    print("this is the last word", flush=True)
    os._exit(7)
raise RuntimeError("this one is not for loading")
