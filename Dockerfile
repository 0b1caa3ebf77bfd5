# One image for worker, dashboard and feed; `--build-arg EXTRA=gpu` gives it ONNX Runtime for CUDA,
# `EXTRA=openvino` OpenVINO, for processors that compute in bfloat16.
FROM python:3.11.13-slim-bookworm
ARG EXTRA=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY crosswind crosswind
COPY stream stream
COPY models models
COPY export export
COPY dashboard dashboard
RUN pip install -c constraints.txt . \
 && if [ "$EXTRA" = gpu ]; then pip install -c constraints.txt '.[gpu]' && pip uninstall -y onnxruntime onnxruntime-gpu \
      && pip install --no-deps onnxruntime-gpu==1.31.1; \
    elif [ -n "$EXTRA" ]; then pip install -c constraints.txt ".[$EXTRA]"; fi \
 && useradd --create-home --uid 10001 crosswind
USER crosswind
WORKDIR /home/crosswind
# A named volume that is mounted on a folder of the image gets its owner; elsewhere it would be root's.
RUN mkdir .crosswind registry
ENTRYPOINT ["crosswind"]
CMD ["--help"]
