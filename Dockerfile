# One image for every service: docker-compose.yml says which module a container runs.
FROM python:3.13-slim AS packages
COPY requirements.txt .
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt

FROM python:3.13-slim
RUN useradd --system --uid 10001 --user-group --no-create-home fulfillment \
 && install -d -o fulfillment -g fulfillment /var/lib/sandbox
COPY --from=packages /venv /venv
WORKDIR /app
COPY schemas schemas
COPY services services
COPY migrations migrations
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER fulfillment
CMD ["python", "-m", "services.gateway"]
