# One image for every process of ours; the command says which (`chama api`, `worker`, `relay`, `migrate`, `sandbox`).

FROM python:3.11-slim AS build
WORKDIR /app
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Before the code, so that a change of code does not install everything again.
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps -r requirements.lock
COPY . .
RUN pip install --no-deps --no-build-isolation -e .
# Nothing is written when it runs: without this every start would compile our own modules anew.
RUN python -m compileall -q /app

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home chama && install -d -o chama -g chama /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER chama
ENTRYPOINT ["chama"]
CMD ["--help"]
