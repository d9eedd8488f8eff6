//go:build !linux

package main

import "syscall"

// attributes gives a process a group of its own. Only Linux can promise more.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
