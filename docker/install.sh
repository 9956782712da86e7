#!/bin/sh
# Fills /opt/graphpipe, the virtual environment that becomes the image. Run by the Dockerfiles beside it, in their first
# stage, twice: what a change of our own code does not touch is a layer of its own.
#
#     docker/install.sh dependencies   what $REQUIREMENTS pins
#     docker/install.sh package        GraphPipe, and $EXTRAS and $PACKAGES of whoever builds
#
# pip's own arguments are in $PIP_FLAGS. pip lies in /opt/pip, and so never gets into the image.
set -eu

pip() { /opt/pip/bin/pip --disable-pip-version-check --no-input "$@"; }
into_image() { pip --python /opt/graphpipe/bin/python install --no-cache-dir --progress-bar off "$@"; }

case $1 in
dependencies)
    python3 -m venv /opt/pip
    python3 -m venv --without-pip /opt/graphpipe
    pip install --no-cache-dir --progress-bar off --requirement docker/requirements/build.txt
    if [ -n "${TORCH_INDEX:-}" ]; then
        into_image --requirement docker/requirements/json.txt --requirement docker/requirements/grpc.txt
        into_image --constraint constraints.txt --index-url "$TORCH_INDEX" torch
    else
        # shellcheck disable=SC2086 # several flags
        into_image --requirement "$REQUIREMENTS" $PIP_FLAGS
    fi
    ;;
package)
    pip wheel --no-build-isolation --no-deps --wheel-dir dist .
    into_image --no-deps dist/*.whl
    case ,$EXTRAS, in *,all,*) EXTRAS=$EXTRAS,grpc,json,onnx,tensorflow,torch ;; esac
    for extra in $(echo "$EXTRAS" | tr ',' ' '); do
        if [ -f "docker/requirements/$extra.txt" ]; then
            # shellcheck disable=SC2086 # several flags
            into_image --requirement "docker/requirements/$extra.txt" $PIP_FLAGS
        fi
    done
    if [ -n "$EXTRAS$PACKAGES" ]; then
        wheel=$(echo dist/*.whl)
        # Packages have no hash here: whoever asks for some may pin them, with their hashes, in a file of his own.
        # shellcheck disable=SC2086 # several packages, several flags
        into_image --constraint constraints.txt "$wheel${EXTRAS:+[$EXTRAS]}" $PACKAGES $PIP_FLAGS
    fi
    pip --python /opt/graphpipe/bin/python check
    cd /opt/graphpipe/lib/python3*/site-packages
    # shellcheck disable=SC2086 # several patterns
    rm -rf $LEAVE_OUT
    ;;
esac
