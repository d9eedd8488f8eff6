package main

import "syscall"

// attributes gives a process a group of its own, and the kernel's promise to kill it
// should even the supervisor be killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
