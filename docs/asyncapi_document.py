"""Writes `docs/asyncapi.json` anew: ``python docs/asyncapi_document.py``."""

from pathlib import Path

from tracking_notifier.stream.stream_asyncapi import encoded_document

PAGE = Path(__file__).with_name("asyncapi.json")

if __name__ == "__main__":
    PAGE.write_bytes(encoded_document())
