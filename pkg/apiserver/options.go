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

// watchGrace is how long the end of a server waits for watches to end, which it asks them to.
// Without it they are not asked, and hold it up for a minute.
const watchGrace = 5 * time.Second

// DefaultEtcdPrefix is where the objects are in etcd.
const DefaultEtcdPrefix = "/registry/ipam.ironcore.dev"

// Options are the options of the server.
type Options struct {
	// Recommended are the options that every aggregated API server has.
	Recommended *genericoptions.RecommendedOptions
	// WithoutCluster is for a server that stands alone: nobody is authenticated but by a client
	// certificate, only the group system:masters is authorized, and there are no namespaces to look
	// up and no webhooks to ask. Of admission it has the plugins of this group.
	WithoutCluster bool
	// APIAudiences are what tokens may be for, besides kube-apiserver.
	APIAudiences []string
	// AuditInterval is the time between two comparisons of objects with claims; 0 is never.
	AuditInterval time.Duration
	// ShutdownDelay is how long a server that is told to end still serves, but says that it is not
	// ready, so that those who send it requests can turn to another one.
	ShutdownDelay time.Duration

	// WatchPatience is how long a client may leave unread what a watch sends, before the watch ends.
	WatchPatience time.Duration

	clientCA genericoptions.ClientCertAuthenticationOptions
	// admission is what is left of the recommended ones without a cluster.
	admission *genericoptions.AdmissionOptions
	reader    *initializer.Deferred
	// enforced is known once the plugins are made.
	enforced initializer.Enforced
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	o := &Options{
		Recommended:   genericoptions.NewRecommendedOptions(DefaultEtcdPrefix, nil),
		APIAudiences:  []string{ipam.GroupName},
		AuditInterval: 10 * time.Minute,
		WatchPatience: defaultWatchPatience,
		reader:        &initializer.Deferred{},
	}
	admission.Install(o.Recommended.Admission)
	o.Recommended.ExtraAdmissionInitializers = o.admissionInitializers
	o.Recommended.Etcd.DefaultStorageMediaType = runtime.ContentTypeProtobuf
	return o
}

// setCodec has objects written to etcd in the media type that is set. They are read in any.
func setCodec(etcd *genericoptions.EtcdOptions) error {
	config := serverstorage.StorageCodecConfig{
		StorageMediaType:  etcd.DefaultStorageMediaType,
		StorageSerializer: Codecs,
		StorageVersion:    schema.GroupVersion(v1alpha1.GroupVersion),
		MemoryVersion:     schema.GroupVersion{Group: ipam.GroupName, Version: runtime.APIVersionInternal},
	}
	var err error
	etcd.StorageConfig.Codec, etcd.StorageConfig.EncodeVersioner, err = serverstorage.NewStorageCodec(config)
	return err
}

// AddFlags adds the flags of the options.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	o.Recommended.AddFlags(fs)
	utilfeature.DefaultMutableFeatureGate.AddFlag(fs)
	fs.BoolVar(&o.WithoutCluster, "without-cluster", o.WithoutCluster,
		"Serve without a Kubernetes cluster behind: authenticate by --client-ca-file only, authorize the group "+
			"system:masters only, and accept any namespace.")
	fs.StringSliceVar(&o.APIAudiences, "api-audiences", o.APIAudiences,
		"Audiences that tokens may be for. Tokens for kube-apiserver are accepted, too.")
	fs.DurationVar(&o.AuditInterval, "claims-audit-interval", o.AuditInterval,
		"The time between two comparisons of all objects with their claims, from the end of one to the start of the next. The "+
			"metric ipam_claims_differences shows the result. 0 disables the comparison after the start.")
	fs.DurationVar(&o.ShutdownDelay, "shutdown-delay-duration", o.ShutdownDelay,
		"How long to serve on after being told to end, while /readyz says that it is not ready.")
}

// Complete fills in what is not set.
func (o *Options) Complete() error {
	if o.WithoutCluster {
		r := o.Recommended
		if r.Authentication != nil {
			o.clientCA = r.Authentication.ClientCert
		}
		o.admission = r.Admission
		r.Authentication, r.Authorization, r.CoreAPI, r.Admission = nil, nil, nil, nil
		// Its configuration comes from the cluster.
		r.Features.EnablePriorityAndFairness = false
		// There is no garbage collector, so no object may wait for one.
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

// Validate tells every mistake in the options.
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
		errs = append(errs, fmt.Errorf("--without-cluster needs --client-ca-file, or nobody could log in"))
	}
	return utilerrors.NewAggregate(errs)
}

// Config returns the configuration of a server with these options.
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

	if err := o.Recommended.ApplyTo(config); err != nil {
		return nil, err
	}
	if o.WithoutCluster {
		if err := o.applyWithoutCluster(&config.Config); err != nil {
			return nil, err
		}
	} else {
		config.Authentication.Authenticator = acceptAudiences(config.Authentication.Authenticator, o.APIAudiences)
		rememberAnswers(&config.Config)
	}
	endStalledWatches(&config.Config, o.WatchPatience)
	return &Config{
		GenericConfig: config, WithoutCluster: o.WithoutCluster, WatchCache: o.Recommended.Etcd.EnableWatchCache, AuditInterval: o.AuditInterval, Reader: o.reader, Enforced: o.enforced,
	}, nil
}

// rememberAnswers has the server ask less often who somebody is and what they may do.
func rememberAnswers(config *genericapiserver.Config) {
	if proxies := config.Authentication.RequestHeaderConfig; proxies != nil {
		config.Authentication.Authenticator = rememberProxies(config.Authentication.Authenticator, proxies)
	}
	if config.Authorization.Authorizer != nil {
		config.Authorization.Authorizer = authorizeByKind(config.Authorization.Authorizer)
	}
}

// admissionInitializers hands the plugins what the recommended options do not.
func (o *Options) admissionInitializers(*genericapiserver.RecommendedConfig) ([]genericadmission.PluginInitializer, error) {
	return []genericadmission.PluginInitializer{initializer.New(o.reader, &o.enforced)}, nil
}

// applyWithoutCluster authenticates by client certificates and refuses everybody else, the
// anonymous included. Of admission it has what needs no cluster.
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
	config.Authentication.Authenticator = rememberCertificates(authenticator)
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
