// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/ui"
	"github.com/spf13/cobra"
)

// newUICommand returns the command "ui".
func (s *session) newUICommand() *cobra.Command {
	return ui.NewCommand(s.config, s.IOStreams, func() { s.denied = true })
}
