#!/bin/sh
# The container's entry: starts sshd for launches over several machines when NEOX_SSHD=1, then becomes the command.
#   NEOX_SSH_DIR   a read-only mount with id_ed25519 and authorized_keys (default /run/neox-ssh); no key is in the image
set -eu
if [ "${NEOX_SSHD:-0}" = 1 ]; then
    umask 077
    source=${NEOX_SSH_DIR:-/run/neox-ssh}
    mkdir -p "$HOME/.ssh/hostkeys"
    [ -f "$HOME/.ssh/hostkeys/ed25519" ] || ssh-keygen -q -t ed25519 -N '' -f "$HOME/.ssh/hostkeys/ed25519"
    for name in id_ed25519 authorized_keys; do
        [ -f "$source/$name" ] || { echo "entrypoint: $source/$name is missing; mount a folder with it, or unset NEOX_SSHD" >&2; exit 2; }
        install -m 600 "$source/$name" "$HOME/.ssh/$name"
    done
    # what ranks that are started over ssh must see as well
    env | grep -E '^(PATH|LD_LIBRARY_PATH|PYTHONPATH|NCCL_|CUDA_|UCX_|NVIDIA_|HF_)' > "$HOME/.ssh/environment" || true
    /usr/sbin/sshd -f /etc/ssh/sshd_config.neox
fi
case "${1:-}" in
    train|generate|evaluate|benchmark|quickstart) set -- /gpt-neox/deepy.py "$@" ;;  # `docker run IMAGE train CONFIG...`
esac
exec "$@"
