// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"fmt"
	"os"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/datadir"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// WriteKubeconfig writes a kubeconfig to path. With it a client connects to server, a URL such as
// https://127.0.0.1:6443, as the administrator of pki. The file contains the certificates and the key, refers to
// no other file, and has mode 0600. If it is already up to date, it is not changed. Anything else at path is
// overwritten, so path must belong to ipam-standalone.
func WriteKubeconfig(path, server string, pki *Certificates) error {
	const name = "ipam"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   server,
		CertificateAuthorityData: pki.CACertPEM,
	}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: pki.AdminCertPEM,
		ClientKeyData:         pki.AdminKeyPEM,
	}
	config.Contexts[name] = &clientcmdapi.Context{
		Cluster:   name,
		AuthInfo:  name,
		Namespace: "default",
	}
	config.CurrentContext = name
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode kubeconfig: %w", err)
	}

	info, err := os.Lstat(path)
	if err == nil && info.Mode() == 0o600 {
		old, err := os.ReadFile(path)
		if err == nil && bytes.Equal(old, data) {
			return nil
		}
	}
	if err := datadir.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
