// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel kill the process if the test process ends before it.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// chroot gives a command a root directory. Somebody who is not root runs it in a user namespace.
func chroot(cmd *exec.Cmd, root string) error {
	cmd.Dir, cmd.SysProcAttr.Chroot = "/", root
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return nil
}
