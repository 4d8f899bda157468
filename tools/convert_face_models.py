"""Convert MediaPipe's TFLite files into the files ``emotalking/networks/data/mediapipe_*.safetensors``.

    python tools/convert_face_models.py WHEEL TASK OUT

WHEEL: ``mediapipe-0.10.21-cp312-*.whl`` of PyPI; TASK: ``face_landmarker_v2_with_blendshapes.task`` of MediaPipe's
model page; both Apache-2.0. Needs the packages ``ai-edge-litert`` (the schema), ``flatbuffers``, ``numpy`` and
``safetensors``. Nothing is trained or rounded: the weights keep their half precision. What changes is the container:
sparse weights are written out, the order of their axes is PyTorch's, paddings are numbers, and the face mesh ends with
one array of all points. The metadata of each file holds the list of operations (JSON) and the SHA-256 of the source.
"""

import argparse
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from safetensors.numpy import save_file

WHEEL_FILES = {
    "face_detection": "mediapipe/modules/face_detection/face_detection_short_range.tflite",
    "face_detection_far": "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
    "face_mesh": "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite",
    "person": "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
    "palm_detection": "mediapipe/modules/palm_detection/palm_detection_lite.tflite",
    "hand": "mediapipe/modules/hand_landmark/hand_landmark_lite.tflite",
}
TASK_FILES = {"blendshapes": "face_blendshapes.tflite"}

OPERATIONS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
TYPES = {0: np.float32, 1: np.float16, 2: np.int32}
ACTIVATIONS = {0: None, 1: "relu", 3: "relu6"}
SAME = 0
SIMPLE = {
    "ADD": "add",
    "SUB": "sub",
    "MUL": "mul",
    "DIV": "div",
    "NEG": "neg",
    "SQRT": "sqrt",
    "RSQRT": "rsqrt",
    "SQUARED_DIFFERENCE": "squared_difference",
    "LOGISTIC": "sigmoid",
    "HARD_SWISH": "hard_swish",
    "RELU": "relu",
    "PRELU": "prelu",
    "TransformLandmarks": "transform_points",
}


class Converter:
    """One TFLite graph; ``nodes`` and ``weights`` are what is written."""

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self.graph = self.model.subgraphs[0]
        self.constants: dict[int, np.ndarray] = {}
        self.nodes: list[dict[str, Any]] = []
        self.weights: dict[str, np.ndarray] = {}
        for index in range(len(self.graph.tensors)):
            self._read_constant(index)
        for operator in self.graph.operators:
            self._convert(operator)

    def _read_constant(self, index: int) -> None:
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or len(data) == 0:
            return
        values = np.frombuffer(bytes(bytearray(data)), TYPES[tensor.type])
        shape = () if tensor.shape is None else tuple(int(n) for n in tensor.shape)
        self.constants[index] = values.reshape(shape) if tensor.sparsity is None else _dense(values, shape, tensor)

    def _convert(self, operator: Any) -> None:
        code = self.model.operatorCodes[operator.opcodeIndex]
        kind = OPERATIONS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind == "CUSTOM":
            kind = code.customCode.decode()
        inputs, (out,) = [int(i) for i in operator.inputs], operator.outputs
        if kind in ("DEQUANTIZE", "DENSIFY"):  # half precision and sparsity are ways to store a weight
            self.constants[int(out)] = self.constants[inputs[0]]
            return
        node = {"op": SIMPLE[kind]} if kind in SIMPLE else getattr(self, f"_{kind.lower()}")(operator, inputs)
        options = operator.builtinOptions
        activation = ACTIVATIONS[getattr(options, "fusedActivationFunction", 0) if options is not None else 0]
        node.setdefault("inputs", inputs)
        node["inputs"] = [self._name(i) if isinstance(i, int) else i for i in node["inputs"]]
        self.nodes.append(node | {"output": str(out)} | ({} if activation is None else {"activation": activation}))

    def _name(self, index: int) -> str:
        if index in self.constants:
            self.weights.setdefault(str(index), np.ascontiguousarray(self.constants[index]))
        return str(index)

    def _weight(self, index: int, axes: tuple[int, ...]) -> str:
        """Name of a constant with its axes in another order."""
        self.weights[str(index)] = np.ascontiguousarray(self.constants[index].transpose(axes))
        return str(index)

    def _shape(self, index: int) -> list[int]:
        return [int(n) for n in self.graph.tensors[index].shape]

    def _window(self, operator: Any, size: list[int], stride: list[int], padding: int) -> list[int]:
        """Padding (left, right, top, bottom) of a sliding window, as TensorFlow places it."""
        before, after = self._shape(operator.inputs[0])[1:3], self._shape(operator.outputs[0])[1:3]
        out = []
        for axis in (1, 0):
            total = max((after[axis] - 1) * stride[axis] + size[axis] - before[axis], 0) if padding == SAME else 0
            out += [total // 2, total - total // 2]
        return out

    def _convolution(self, operator: Any, inputs: list[int], groups: int, axes: tuple[int, ...]) -> dict[str, Any]:
        options, size = operator.builtinOptions, self._shape(inputs[1])[1:3]
        if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
            raise NotImplementedError("dilated convolution")
        stride = [options.strideH, options.strideW]
        return {
            "op": "convolution",
            "size": size,
            "inputs": [inputs[0], self._weight(inputs[1], axes), inputs[2]],
            "stride": stride,
            "padding": self._window(operator, size, stride, options.padding),
            "groups": groups,
        }

    def _conv_2d(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return self._convolution(operator, inputs, 1, (0, 3, 1, 2))

    def _depthwise_conv_2d(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return self._convolution(operator, inputs, self._shape(inputs[0])[3], (3, 0, 1, 2))

    def _convolution2dtransposebias(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        _, width, height = np.frombuffer(bytes(bytearray(operator.customOptions)), np.int32)
        if self._shape(inputs[1])[1:3] != [height, width]:
            raise NotImplementedError("overlapping transposed convolution")
        weight = self._weight(inputs[1], (3, 0, 1, 2))
        return {
            "op": "transposed_convolution",
            "inputs": [inputs[0], weight, inputs[2]],
            "stride": [int(height), int(width)],
        }

    def _fully_connected(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return {"op": "linear"}

    def _pool(self, operator: Any, kind: str) -> dict[str, Any]:
        options = operator.builtinOptions
        size, stride = [options.filterHeight, options.filterWidth], [options.strideH, options.strideW]
        padding = self._window(operator, size, stride, options.padding)
        if any(padding):
            raise NotImplementedError("padded pooling")
        return {"op": kind, "size": size, "stride": stride}

    def _max_pool_2d(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return self._pool(operator, "max_pool")

    def _average_pool_2d(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return self._pool(operator, "average_pool")

    def _pad(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        amounts = self.constants[inputs[1]].tolist()
        return {"op": "pad", "inputs": inputs[:1], "padding": [n for pair in reversed(amounts) for n in pair]}

    def _resize_bilinear(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        options = operator.builtinOptions
        if options.alignCorners or not options.halfPixelCenters:
            raise NotImplementedError(f"resize: {options.alignCorners} {options.halfPixelCenters}")
        return {"op": "resize", "inputs": inputs[:1], "size": self.constants[inputs[1]].tolist()}

    def _depth_to_space(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return {"op": "depth_to_space", "block": operator.builtinOptions.blockSize}

    def _reshape(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return {"op": "reshape", "inputs": inputs[:1], "shape": self._shape(operator.outputs[0])}

    def _concatenation(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return {"op": "concatenate", "axis": operator.builtinOptions.axis}

    def _transpose(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return {"op": "transpose", "inputs": inputs[:1], "axes": self.constants[inputs[1]].tolist()}

    def _reduction(self, operator: Any, inputs: list[int], kind: str) -> dict[str, Any]:
        axes = np.atleast_1d(self.constants[inputs[1]]).tolist()
        return {"op": kind, "inputs": inputs[:1], "axes": axes, "keep": operator.builtinOptions.keepDims}

    def _mean(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return self._reduction(operator, inputs, "mean")

    def _sum(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return self._reduction(operator, inputs, "sum")

    def _strided_slice(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        options, shape = operator.builtinOptions, self._shape(inputs[0])
        begin, end, step = (self.constants[i].tolist() for i in inputs[1:])
        if options.ellipsisMask or options.newAxisMask or any(n != 1 for n in step):
            raise NotImplementedError("strided slice")
        begin = [0 if options.beginMask >> axis & 1 else n for axis, n in enumerate(begin)]
        end = [shape[axis] if options.endMask >> axis & 1 else n for axis, n in enumerate(end)]
        end = [begin[axis] + 1 if options.shrinkAxisMask >> axis & 1 else n for axis, n in enumerate(end)]
        size = [min(n, shape[axis]) - begin[axis] for axis, n in enumerate(end)]
        return {"op": "slice", "inputs": inputs[:1], "begin": begin, "size": size} | {
            "shape": self._shape(operator.outputs[0])
        }

    def _landmarks2transformmatrix(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return {"op": "region_matrix"} | _custom_options(operator)

    def _transformtensorbilinear(self, operator: Any, inputs: list[int]) -> dict[str, Any]:
        return {"op": "sample_region"} | _custom_options(operator)

    def _refined(self, outputs: dict[str, str]) -> dict[str, str]:
        """Add the step that MediaPipe takes outside of the network: one face of 478 points from six outputs.

        The second look at the lips and at each eye moves x and y of the points that its square was made of; irises are
        as deep as the 16 points of the lids, which come first among the eye's.
        """
        groups = [node["subset_idxs"] for node in self.nodes if node["op"] == "region_matrix"]
        parts = ("mesh_identity", "lips", "left_eye", "right_eye", "left_iris", "right_iris")
        inputs = [outputs[f"output_{part}"] for part in parts]
        self.nodes.append({"op": "refine", "inputs": inputs, "groups": groups, "lids": 16, "output": "points"})
        return {"points": "points", "presence": outputs["conv_faceflag"]}

    def save(self, path: Path, source: str, sha256: str) -> None:
        """Write the file; inputs and outputs are named in the order of the source."""
        outputs = {self.graph.tensors[i].name.decode(): str(i) for i in self.graph.outputs}
        if "output_lips" in outputs:
            outputs = self._refined(outputs)
        graph = {"inputs": [str(i) for i in self.graph.inputs], "outputs": outputs, "nodes": self.nodes}
        about = {"source": source, "source_sha256": sha256, "licence": "Apache-2.0"}
        text = {"graph": json.dumps(graph, separators=(",", ":")), **about}
        weights = {name: value.astype(np.float16) if _is_half(value) else value for name, value in self.weights.items()}
        save_file(weights, path, metadata=text)


def _is_half(values: np.ndarray) -> bool:
    return values.dtype == np.float32 and bool((values.astype(np.float16).astype(np.float32) == values).all())


def _custom_options(operator: Any) -> dict[str, Any]:
    return flexbuffers.Loads(bytes(bytearray(operator.customOptions)))


def _dense(values: np.ndarray, shape: tuple[int, ...], tensor: Any) -> np.ndarray:
    """A weight from its non-zero blocks (TFLite's sparse format: levels that are dense or compressed rows)."""
    sparsity = tensor.sparsity
    order = [int(n) for n in sparsity.traversalOrder]
    blocks = [] if sparsity.blockMap is None else [int(n) for n in sparsity.blockMap]
    levels = list(sparsity.dimMetadata)
    block_sizes = [int(levels[len(shape) + k].denseSize) for k in range(len(blocks))]
    out = np.zeros(shape, values.dtype)
    source = iter(values)

    def visit(level: int, row: int, index: list[int]) -> None:
        if level == len(levels):
            place = [0] * len(shape)
            for axis, position in zip(order, index, strict=True):
                if axis < len(shape):
                    place[axis] += position * (block_sizes[blocks.index(axis)] if axis in blocks else 1)
                else:
                    place[blocks[axis - len(shape)]] += position
            out[tuple(place)] = next(source)
            return
        meta = levels[level]
        if meta.format == schema.DimensionType.DENSE:
            for position in range(meta.denseSize):
                visit(level + 1, row * meta.denseSize + position, [*index, position])
        else:
            for k in range(int(meta.arraySegments.values[row]), int(meta.arraySegments.values[row + 1])):
                visit(level + 1, k, [*index, int(meta.arrayIndices.values[k])])

    visit(0, 0, [])
    return out


def main() -> None:
    """Convert all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    for archive, files in ((args.wheel, WHEEL_FILES), (args.task, TASK_FILES)):
        with zipfile.ZipFile(archive) as stored:
            for name, file in files.items():
                content = stored.read(file)
                target = args.out / f"mediapipe_{name}.safetensors"
                converter = Converter(content)
                converter.save(target, f"{archive.name}: {file}", hashlib.sha256(content).hexdigest())
                print(f"{target}: {target.stat().st_size} bytes, {len(converter.nodes)} operations")


if __name__ == "__main__":
    main()
