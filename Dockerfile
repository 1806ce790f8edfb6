# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

FROM golang:1.26.8 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY clusterapi/go.mod clusterapi/go.sum clusterapi/
RUN go mod download -C clusterapi
COPY . .
ARG VERSION=v0.0.0-unreleased
RUN CGO_ENABLED=0 go build -trimpath -o /out/ \
    -ldflags "-s -w -X github.com/ironcore-dev/ipam-apiserver/pkg/version.version=${VERSION}" \
    ./cmd/ipam-apiserver ./cmd/ipam-controller-manager
RUN CGO_ENABLED=0 go build -C clusterapi -trimpath -o /out/ \
    -ldflags "-s -w -X github.com/ironcore-dev/ipam-apiserver/pkg/version.version=${VERSION}" ./cmd/ipam-cluster-api

# The programs are static. They need nothing else but the authorities of the Internet, for webhooks outside of the cluster.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /
USER 65532:65532
