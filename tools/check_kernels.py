"""Compiles crates/medst/ops/gpu/kernels.cu by NVRTC, as the program does on a card. Called by check_kernels.sh."""

import ctypes
import site
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "crates/medst/ops/gpu/kernels.cu"


def compiled(nvrtc, architecture, width, kind):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), SOURCE.read_bytes(), b"kernels.cu", 0, None, None) == 0
    options = [f"--gpu-architecture={architecture}", "--std=c++17", f"-DWIDTH={width}", f"-D{kind}"]
    options = (ctypes.c_char_p * len(options))(*map(str.encode, options))
    result = nvrtc.nvrtcCompileProgram(program, len(options), options)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert result == 0, f"{architecture}, {width}, {kind}: {log.value.decode()}"
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return size.value


def main():
    library = next(path for folder in site.getsitepackages() for path in Path(folder).rglob("libnvrtc.so.*"))
    # It asks for this one by its name alone.
    ctypes.CDLL(str(next(library.parent.glob("libnvrtc-builtins.so.*"))), ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(str(library))
    for architecture in ("sm_80", "sm_90", "sm_100"):
        for width in (128, 384, 768, 1024):
            sizes = [compiled(nvrtc, architecture, width, kind) for kind in ("BFLOAT16", "HALF")]
            print(f"{architecture}, rows of {width}: {sizes[0]} and {sizes[1]} bytes in bfloat16 and float16")


if __name__ == "__main__":
    main()
