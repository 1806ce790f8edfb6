// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package memory

import "time"

// adviseHugePages does nothing: only Linux wants to be asked.
func adviseHugePages(time.Duration) (stop func()) { return func() {} }
