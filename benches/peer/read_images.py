"""Reads a radiograph as the reference does (OpenCV, grey, area resizing to 256), on one core:
pictures per second.

read_images.py FILE
"""

import json
import sys
import time
from statistics import median

import cv2


def main(path):
    cv2.setNumThreads(1)
    seconds = []
    for _ in range(15):
        start = time.perf_counter()
        image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        height, width = image.shape
        scale = 256 / max(height, width)
        cv2.resize(image, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_AREA)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"per_s": 1 / median(seconds), "opencv": cv2.__version__}))


if __name__ == "__main__":
    main(sys.argv[1])
