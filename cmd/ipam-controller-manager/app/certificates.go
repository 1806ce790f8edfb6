// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"

	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/certificate"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
)

const certificateComponent = "ipam-certificate-controller"

// CertificatesOptions are the options of the certificates command.
type CertificatesOptions struct {
	ProcessOptions
	// Certificate configures the certificate controller.
	Certificate certificate.Config
}

// NewCertificatesOptions returns the default options.
func NewCertificatesOptions() *CertificatesOptions {
	return &CertificatesOptions{ProcessOptions: newProcessOptions(certificateComponent), Certificate: certificate.NewConfig()}
}

// AddFlags adds the flags of the options to fs.
func (o *CertificatesOptions) AddFlags(fs *pflag.FlagSet) {
	o.ProcessOptions.AddFlags(fs)
	c := &o.Certificate
	fs.StringVar(&c.Namespace, "certificate-namespace", c.Namespace, "Namespace of the Secrets and of the Service of the API server.")
	fs.StringVar(&c.Secret, "certificate-secret", c.Secret, "Secret for the serving certificate of the API server.")
	fs.StringVar(&c.CASecret, "certificate-ca-secret", c.CASecret, "Secret for the certificate authority (CA) that signs the serving certificate.")
	fs.StringVar(&c.Service, "certificate-service", c.Service, "Service of the API server. The serving certificate is valid for its DNS names.")
	fs.StringVar(&c.EtcdService, "certificate-etcd-service", c.EtcdService, "Service of the etcd members. If set, the controller also maintains the certificates of etcd, in the Secrets NAME-ca, NAME-tls and NAME-client-tls.")
	fs.DurationVar(&c.Lifetime, "certificate-lifetime", c.Lifetime, "Validity period of a certificate. It is renewed when a third of the period is left.")
	fs.DurationVar(&c.CALifetime, "certificate-ca-lifetime", c.CALifetime, "Validity period of a CA. It is replaced when a third of the period is left.")
}

// Validate returns an error if the options are not valid.
func (o *CertificatesOptions) Validate() error {
	if err := o.ProcessOptions.Validate(); err != nil {
		return err
	}
	return o.Certificate.Validate()
}

// newCertificatesCommand returns the command that manages the certificates. It runs as a separate process with its own
// ServiceAccount, because it can read the private keys of all certificate authorities.
func newCertificatesCommand(ctx context.Context) *cobra.Command {
	options := NewCertificatesOptions()
	cmd := &cobra.Command{
		Use:   "certificates",
		Short: "Maintain the certificates of the API server and of etcd",
		Long: "This command issues and renews the serving certificate of the API server, and publishes its CA in the " +
			"APIService. With --certificate-etcd-service it also issues and renews the certificates of etcd. It depends " +
			"on Kubernetes only. If several processes run, only the leader is active.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := options.Validate(); err != nil {
				return err
			}
			return keepCertificates(ctx, options)
		},
	}
	options.AddFlags(cmd.Flags())
	return cmd
}

func keepCertificates(ctx context.Context, options *CertificatesOptions) error {
	config, err := options.clientConfig(certificateComponent)
	if err != nil {
		return err
	}
	kubeClient, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	aggregatorClient, err := aggregator.NewForConfig(config)
	if err != nil {
		return err
	}
	return options.lead(ctx, kubeClient, certificate.New(options.Certificate, kubeClient, aggregatorClient).Run)
}
