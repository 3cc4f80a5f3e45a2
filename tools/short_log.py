"""The log of a run for keeping: every validation and every hundredth step, as JSON lines with the name of the stage.

    python3 tools/short_log.py STAGE metrics.jsonl
"""

import json
import sys


def main():
    stage, path = sys.argv[1:]
    for line in open(path):
        entry = json.loads(line)
        if entry.get("kind") == "validate" or (entry.get("kind") == "train" and entry["step"] % 100 == 0):
            kept = {key: round(value, 6) if isinstance(value, float) else value for key, value in entry.items() if value is not None}
            print(json.dumps({"stage": stage, **kept}))


main()
