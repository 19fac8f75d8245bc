# The training image: neox-code at /gpt-neox on the base image's own torch, CUDA and NCCL.
#
#   docker build -t neox-code .
#   docker build -t neox-code --build-arg BASE_IMAGE=pytorch/pytorch:2.11.0-cuda13.0-cudnn9-devel .
#
# No builder features newer than 2020: any docker, podman, kaniko or buildah builds it.
ARG BASE_IMAGE=nvcr.io/nvidia/pytorch:26.06-py3

FROM ${BASE_IMAGE} AS dependencies
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages /opt/venv
# Extras of pyproject.toml to install: "wandb" or "test,wandb"; "test" adds pytest and transformers (0.45 GB).
ARG EXTRAS=
COPY pyproject.toml tools/cluster/requirements.py /tmp/
# Everything but torch, which is the base image's and stays what it is.
RUN python3 /tmp/requirements.py /tmp/pyproject.toml "${EXTRAS}" > /tmp/requirements.txt \
 && python3 -c "import torch; print('torch==' + torch.__version__)" > /tmp/constraints.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_CONSTRAINT= DS_BUILD_OPS=0 /opt/venv/bin/pip install "setuptools>=77" -r /tmp/requirements.txt -c /tmp/constraints.txt \
 && /opt/venv/bin/python -c "import torch; assert 'torch==' + torch.__version__ == open('/tmp/constraints.txt').read().strip()"

FROM ${BASE_IMAGE} AS runtime
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install -y --no-install-recommends git openssh-client openssh-server pdsh tini \
 && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*

ARG UID=1000
ARG GID=1000
ARG USERNAME=neox
# Images of Ubuntu 24.04 come with a user of uid 1000: it makes room.
RUN if old=$(getent passwd "${UID}" | cut -d: -f1) && [ -n "${old}" ]; then userdel -r "${old}" 2>/dev/null || true; fi \
 && { getent group "${GID}" >/dev/null || groupadd --gid "${GID}" "${USERNAME}"; } \
 && useradd --no-log-init --uid "${UID}" --gid "${GID}" --create-home --shell /bin/bash "${USERNAME}" \
 && install -d -o "${UID}" -g "${GID}" -m 0775 /gpt-neox /gpt-neox/checkpoints /gpt-neox/data \
 && install -d -o "${UID}" -g "${GID}" -m 0700 "/home/${USERNAME}/.ssh" \
 && printf '%s\n' 'Port 2222' "HostKey /home/${USERNAME}/.ssh/hostkeys/ed25519" "PidFile /home/${USERNAME}/.ssh/sshd.pid" \
      'UsePAM no' 'PasswordAuthentication no' 'KbdInteractiveAuthentication no' 'PermitRootLogin no' \
      'AuthorizedKeysFile .ssh/authorized_keys' 'PermitUserEnvironment yes' "AllowUsers ${USERNAME}" > /etc/ssh/sshd_config.neox \
 && printf '%s\n' 'Host *' '    Port 2222' '    StrictHostKeyChecking accept-new' '    IdentityFile ~/.ssh/id_ed25519' \
      '    LogLevel ERROR' > /etc/ssh/ssh_config.d/neox.conf

COPY --from=dependencies /opt/venv /opt/venv
COPY --chmod=0755 tools/cluster/entrypoint.sh /usr/local/bin/entrypoint
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PDSH_RCMD_TYPE=ssh
WORKDIR /gpt-neox
COPY --chown=${UID}:${GID} . .
# The code runs from where it lies, so that a checkout mounted over /gpt-neox takes its place.
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e .

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="neox-code" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER ${UID}:${GID}
EXPOSE 2222
ENTRYPOINT ["tini", "-g", "--", "entrypoint"]
CMD ["bash"]
