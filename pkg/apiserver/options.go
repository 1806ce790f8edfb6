// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/openapi"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericadmission "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	basecompatibility "k8s.io/component-base/compatibility"
)

// watchGrace is how long the server waits for watches to end when it shuts down. The default of 0 does not end the
// watches, and they delay the shutdown by a minute.
const watchGrace = 5 * time.Second

// DefaultEtcdPrefix is the key prefix of the objects in etcd.
const DefaultEtcdPrefix = "/registry/ipam.ironcore.dev"

// Options are the options of the API server.
type Options struct {
	// Recommended are the options that all aggregated API servers have.
	Recommended *genericoptions.RecommendedOptions
	// WithoutCluster is set for a server without a Kubernetes cluster. It authenticates client certificates only and
	// authorizes the group system:masters only. It does not check that namespaces exist, and calls no webhooks. Of the
	// admission plugins, it runs only those of this API group.
	WithoutCluster bool
	// APIAudiences are the accepted token audiences, in addition to those of kube-apiserver.
	APIAudiences []string
	// AuditInterval is the time between two comparisons of objects with claims. 0 disables the periodic comparison.
	AuditInterval time.Duration
	// ShutdownDelay is how long a server continues to serve after it was told to stop. During this time /readyz fails,
	// so that load balancers can switch to another server.
	ShutdownDelay time.Duration

	// WatchWriteTimeout is how long a write to the client of a watch may block. After that the watch ends.
	WatchWriteTimeout time.Duration

	clientCA genericoptions.ClientCertAuthenticationOptions
	// admission holds the admission options of a server without a cluster. Complete moves them here from Recommended.
	admission *genericoptions.AdmissionOptions
	reader    *initializer.Deferred
	// enforced is set when the admission plugins are initialized.
	enforced initializer.Enforced
}

// NewOptions returns the default options.
func NewOptions() *Options {
	o := &Options{
		Recommended:       genericoptions.NewRecommendedOptions(DefaultEtcdPrefix, nil),
		APIAudiences:      []string{ipam.GroupName},
		AuditInterval:     10 * time.Minute,
		WatchWriteTimeout: defaultWatchWriteTimeout,
		reader:            &initializer.Deferred{},
	}
	admission.Install(o.Recommended.Admission)
	o.Recommended.ExtraAdmissionInitializers = o.admissionInitializers
	o.Recommended.Etcd.DefaultStorageMediaType = runtime.ContentTypeProtobuf
	return o
}

// setCodec sets the codec of the etcd storage. It writes objects in the configured media type, and reads all supported
// ones. It fails if the media type is not supported.
func setCodec(etcd *genericoptions.EtcdOptions) error {
	config := serverstorage.StorageCodecConfig{
		StorageMediaType:  etcd.DefaultStorageMediaType,
		StorageSerializer: storageCodecs,
		StorageVersion:    schema.GroupVersion(v1alpha1.GroupVersion),
		MemoryVersion:     schema.GroupVersion{Group: ipam.GroupName, Version: runtime.APIVersionInternal},
	}
	var err error
	etcd.StorageConfig.Codec, etcd.StorageConfig.EncodeVersioner, err = serverstorage.NewStorageCodec(config)
	return err
}

// AddFlags adds the flags of the options to fs.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	o.Recommended.AddFlags(fs)
	utilfeature.DefaultMutableFeatureGate.AddFlag(fs)
	fs.BoolVar(&o.WithoutCluster, "without-cluster", o.WithoutCluster,
		"Serve without a Kubernetes cluster: authenticate by --client-ca-file only, authorize the group "+
			"system:masters only, and accept any namespace.")
	fs.StringSliceVar(&o.APIAudiences, "api-audiences", o.APIAudiences,
		"Audiences of the tokens that the server accepts, in addition to those of kube-apiserver.")
	fs.DurationVar(&o.AuditInterval, "claims-audit-interval", o.AuditInterval,
		"Interval between two audits, which compare all objects with their claims, from the end of one to the start of the next. "+
			"The metric ipam_claims_differences shows the result. If 0, there is no audit after the one at start.")
	fs.DurationVar(&o.ShutdownDelay, "shutdown-delay-duration", o.ShutdownDelay,
		"Time to keep serving after a termination signal, while /readyz reports that the server is not ready.")
}

// Complete sets defaults and applies WithoutCluster. It fails if the storage media type is not supported, or if a
// self-signed serving certificate is needed and cannot be created.
func (o *Options) Complete() error {
	if o.WithoutCluster {
		r := o.Recommended
		if r.Authentication != nil {
			o.clientCA = r.Authentication.ClientCert
		}
		o.admission = r.Admission
		r.Authentication, r.Authorization, r.CoreAPI, r.Admission = nil, nil, nil, nil
		// API Priority and Fairness reads its configuration from the cluster.
		r.Features.EnablePriorityAndFairness = false
		// Without a garbage collector, no object may wait for one.
		r.Etcd.EnableGarbageCollection = false
	}
	if err := setCodec(o.Recommended.Etcd); err != nil {
		return fmt.Errorf("--storage-media-type: %w", err)
	}
	if err := o.Recommended.SecureServing.MaybeDefaultWithSelfSignedCerts("localhost", nil, []net.IP{net.IPv4(127, 0, 0, 1)}); err != nil {
		return fmt.Errorf("self-signed serving certificate: %w", err)
	}
	return nil
}

// Validate returns all errors in the options.
func (o *Options) Validate() error {
	errs := o.Recommended.Validate()
	if o.ShutdownDelay < 0 {
		errs = append(errs, fmt.Errorf("--shutdown-delay-duration must not be negative"))
	}
	if err := admission.CheckConfiguration(o.Recommended.Admission); err != nil {
		errs = append(errs, err)
	}
	if o.admission != nil {
		errs = append(errs, o.admission.Validate()...)
		for _, err := range []error{admission.CheckWithoutCluster(o.admission), admission.CheckConfiguration(o.admission)} {
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	if o.WithoutCluster && o.clientCA.ClientCA == "" {
		errs = append(errs, fmt.Errorf("--without-cluster requires --client-ca-file: without it nobody can authenticate"))
	}
	return utilerrors.NewAggregate(errs)
}

// Config returns the configuration of a server with these options. Call Complete and Validate first.
func (o *Options) Config() (*Config, error) {
	config := genericapiserver.NewRecommendedConfig(Codecs)
	config.FeatureGate = utilfeature.DefaultFeatureGate
	config.EffectiveVersion = effectiveVersion{compatibility.DefaultComponentGlobalsRegistry.EffectiveVersionFor(basecompatibility.DefaultKubeComponent)}
	config.ShutdownDelayDuration = o.ShutdownDelay
	config.ShutdownWatchTerminationGracePeriod = watchGrace

	namer := openapinamer.NewDefinitionNamer(Scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, namer)
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, namer)
	config.OpenAPIConfig.Info.Title, config.OpenAPIConfig.Info.Version = "IPAM", version.Get()
	config.OpenAPIV3Config.Info.Title, config.OpenAPIV3Config.Info.Version = "IPAM", version.Get()

	if err := o.applyRecommended(config); err != nil {
		return nil, err
	}
	if o.WithoutCluster {
		if err := o.applyWithoutCluster(&config.Config); err != nil {
			return nil, err
		}
	} else {
		config.Authentication.Authenticator = acceptAudiences(config.Authentication.Authenticator, o.APIAudiences)
		if config.Authorization.Authorizer != nil {
			config.Authorization.Authorizer = authorizeByKind(config.Authorization.Authorizer)
		}
	}
	endStalledWatches(&config.Config, o.WatchWriteTimeout)
	takeTurns(&config.Config)
	return &Config{
		GenericConfig: config, WithoutCluster: o.WithoutCluster, WatchCache: o.Recommended.Etcd.EnableWatchCache, AuditInterval: o.AuditInterval, Reader: o.reader, Enforced: o.enforced,
	}, nil
}

// applyRecommended applies the recommended options. These configure the clients of etcd before they configure tracing, so that
// a trace would end at the API server. Here tracing comes first.
func (o *Options) applyRecommended(config *genericapiserver.RecommendedConfig) error {
	rest := *o.Recommended
	if err := rest.EgressSelector.ApplyTo(&config.Config); err != nil {
		return err
	}
	if err := rest.Traces.ApplyTo(config.EgressSelector, &config.Config); err != nil {
		return err
	}
	rest.Traces = nil
	rest.Etcd.StorageConfig.Transport.TracerProvider = config.TracerProvider
	return rest.ApplyTo(config)
}

// admissionInitializers returns the initializer of the plugins of this API group. The recommended options have the
// others.
func (o *Options) admissionInitializers(*genericapiserver.RecommendedConfig) ([]genericadmission.PluginInitializer, error) {
	return []genericadmission.PluginInitializer{initializer.New(o.reader, &o.enforced)}, nil
}

// applyWithoutCluster configures authentication by client certificates without anonymous requests, authorization of
// system:masters, and the admission plugins that need no cluster.
func (o *Options) applyWithoutCluster(config *genericapiserver.Config) error {
	clientCA, err := o.clientCA.GetClientCAContentProvider()
	if err != nil {
		return fmt.Errorf("client CA: %w", err)
	}
	if err := config.Authentication.ApplyClientCert(clientCA, config.SecureServing); err != nil {
		return fmt.Errorf("client CA: %w", err)
	}
	authenticator, securityDefinitions, err := authenticatorfactory.DelegatingAuthenticatorConfig{
		Anonymous:                          &apiserver.AnonymousAuthConfig{Enabled: false},
		CacheTTL:                           10 * time.Second,
		ClientCertificateCAContentProvider: clientCA,
	}.New()
	if err != nil {
		return fmt.Errorf("authentication: %w", err)
	}
	config.Authentication.Authenticator = authenticator
	config.OpenAPIConfig.SecurityDefinitions = securityDefinitions
	config.OpenAPIV3Config.SecuritySchemes = nil
	config.Authorization.Authorizer = authorizerfactory.NewPrivilegedGroups("system:masters")
	if o.admission != nil {
		if config.AdmissionControl, err = admission.NewWithoutCluster(o.admission, initializer.New(o.reader, &o.enforced)); err != nil {
			return err
		}
	}
	return nil
}
