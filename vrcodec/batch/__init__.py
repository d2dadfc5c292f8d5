"""Many files: a listing of tasks, an engine that has workers do them, rows of what came of it."""

from vrcodec.batch.jobs import Decoding, Encoding
from vrcodec.batch.listing import CODED, PICTURES, Listing, Task, list_folder
from vrcodec.batch.local_engine import Engine, Here, Processes
from vrcodec.batch.run import alone_in
from vrcodec.batch.settings import DecodeSettings, RunSettings
from vrcodec.batch.worker import Row

__all__ = [
    "CODED",
    "PICTURES",
    "DecodeSettings",
    "Decoding",
    "Encoding",
    "Engine",
    "Here",
    "Listing",
    "Processes",
    "Row",
    "RunSettings",
    "Task",
    "alone_in",
    "list_folder",
]
