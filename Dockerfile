# docker build -t coterie .   (--build-arg PIP_EXTRA_INDEX_URL=... for wheels of torch without CUDA)
# docker run --rm -u "$(id -u)" -v "$PWD:/data" coterie fit photos/ -o runs/photos
FROM python:3.12-slim
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /source
COPY pyproject.toml LICENSE NOTICE ./
COPY docs/pypi.md docs/
COPY src src
RUN pip install --no-cache-dir ".[photos,heic,onnx]"
ENV HOME=/tmp COTERIE_CACHE=/tmp/coterie
WORKDIR /data
ENTRYPOINT ["coterie"]
