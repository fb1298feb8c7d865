"""benches/peers/conv.py [name]: the layers of benches/conv.rs through PyTorch (oneDNN, channels_last) and ONNX Runtime.

One thread; GFLOP/s of the process's CPU time, best of several, as benches/conv.rs counts.
Needs torch, onnx and onnxruntime (measured with 2.12.1 and 1.31.1).
"""
import os, re, sys, time, tempfile
import numpy as np, torch
import onnxruntime as ort
try:
    import onnx
    from onnx import helper, TensorProto
except ImportError:
    onnx = None

torch.set_num_threads(1)
rust = open(os.path.join(os.path.dirname(__file__), "..", "conv.rs")).read()
shapes = re.findall(r'\("([^"]+)"((?:, \d+){7})\)', rust)
wanted = sys.argv[1] if len(sys.argv) > 1 else ""


def best(once):
    def timed():
        start = time.thread_time()
        once()
        return time.thread_time() - start
    first = timed()
    first = min(first, timed())
    return min(timed() for _ in range(int(min(2000, max(3, 0.3 / max(first, 1e-6))))))


def session(cin, cout, k, stride, pad, groups, side, weights):
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[k, k], strides=[stride] * 2, pads=[pad] * 4, group=groups)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, cin, side, side])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


print(f"{'layer':24}{'torch':>8}{'bf16':>8}{'ort':>8}")
for name, numbers in shapes:
    if wanted not in name:
        continue
    cin, cout, k, stride, pad, groups, side = map(int, numbers.split(", ")[1:])
    out = (side + 2 * pad - k) // stride + 1
    flops = 2 * out * out * cout * (cin // groups) * k * k
    row = []
    with torch.inference_mode():
        for dtype in [torch.float32, torch.bfloat16]:
            conv = torch.nn.Conv2d(cin, cout, k, stride, pad, groups=groups, bias=False)
            conv = conv.to(dtype).to(memory_format=torch.channels_last)
            x = torch.randn(1, cin, side, side).to(dtype).to(memory_format=torch.channels_last)
            row.append(flops / best(lambda: conv(x)) / 1e9)
    if onnx:
        s = session(cin, cout, k, stride, pad, groups, side, np.random.randn(cout, cin // groups, k, k).astype(np.float32))
        x = np.random.randn(1, cin, side, side).astype(np.float32)
        row.append(flops / best(lambda: s.run(None, {"x": x})) / 1e9)
    print(f"{name:24}" + "".join(f"{v:8.1f}" for v in row), flush=True)
