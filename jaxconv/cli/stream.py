"""``jaxconv stream``: run a trained model over a sequence step by step."""

import argparse
import sys

from jaxconv.cli.stream_options import add_options, read_options

NAME, SUMMARY = "stream", "run a trained model over a sequence step by step"
TEXT = """\
Run a trained model chunk by chunk over a sequence of any length, with the outputs of the whole sequence. INPUT is

  X.npy     one sequence, (steps, ...), or several of one length, (batch, steps, ...)
  X.wav     audio (also .flac), as float32 from -1 to 1, with the channels that the model expects; needs the
            extra 'audio'. The sample rate is printed, and not compared with that of the model's training data
  -         standard input: raw little-endian float32, step by step

Y.npy is written only when it is complete. To standard output (--out -, the default for standard input), the outputs are
written as raw little-endian float32, step by step, as soon as they are computed; the summary goes to standard error.

Examples
  jaxconv stream model.keras x.npy --out y.npy
  jaxconv stream model.keras speech.wav --chunk 160 --out y.npy
  arecord -t raw -f FLOAT_LE -r 16000 | jaxconv stream model.keras - --chunk 160 > y.raw
  jaxconv stream classifier.keras x.npy --pooling cumulative --out y.npy
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a run folder, or a model file")
    parser.add_argument("input", metavar="INPUT", help="an .npy or .wav file, or - for standard input")
    parser.add_argument("--out", metavar="Y.npy", help="the file of the outputs, or - for standard output")
    parser.add_argument("--force", action="store_true", help="overwrite Y.npy if it exists")
    parser.add_argument("--chunk", type=int, metavar="N", help="steps at a time (default: the block for -)")
    parser.add_argument("--input-shape", action="append", metavar="N,N", help="of a sample, if it is not in the file")
    add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Run a model over the input, and print what was written and how fast."""
    from jaxconv.app.model_source import known_shape
    from jaxconv.app.run_folder import model_file
    from jaxconv.app.streaming import open_source, pick_chunk, stream_to_file, stream_to_pipe
    from jaxconv.cli.process import compute_in_calling_thread, write_bytes
    from jaxconv.files.conversion import refuse_to_replace
    from jaxconv.files.loading import read_model
    from jaxconv.streaming import stream

    compute_in_calling_thread()
    file, out = model_file(options.model), options.out or ("-" if options.input == "-" else None)
    if out is None or (out != "-" and (not out.endswith(".npy") or options.input == "-")):
        where = "> FILE" if options.input == "-" else "--out Y.npy, or --out - for standard output"
        what = "no --out" if out is None else f"--out {out}"
        raise ValueError(f"{what}: outputs of {options.input} go to standard output or to a file; give {where}")
    for old in (file, options.input) if out != "-" else ():
        refuse_to_replace(old, out, options.force)
    read = read_model(file)
    shape = known_shape(file, read, options.input_shape)
    running = stream(read.layer, shape, **(read_options(options, True) or {}))
    chunk = pick_chunk(running, options.chunk, least=options.input == "-")
    with open_source(running, options.input, chunk, sys.stdin.buffer) as source:
        if out == "-":
            print(stream_to_pipe(running, read.params, source, write_bytes, chunk), file=sys.stderr)
        else:
            print(stream_to_file(running, read.params, source, out, chunk))
