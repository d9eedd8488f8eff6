package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	setChildSubreaper  = 36
	waitForAll         = 0
	exitedNoWaitNoHang = 0x4 | 0x1000000 | 0x1
)

// adopt makes what our children start in sessions of their own, as pg_ctl does, ours when its parent ends: so that it goes
// with us, and is no zombie once it has ended.
func (s *supervisor) adopt() {
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	go func() {
		for {
			time.Sleep(50 * time.Millisecond)
			for s.reap() {
			}
		}
	}()
}

// reap takes the end of a process that nobody waits for. It reports whether there was one.
func (s *supervisor) reap() bool {
	// Between the start of a process and its place in the list it would be taken for nobody's.
	s.starting.Lock()
	defer s.starting.Unlock()
	var info [128]byte
	_, _, failed := syscall.Syscall6(syscall.SYS_WAITID, waitForAll, 0, uintptr(unsafe.Pointer(&info[0])), exitedNoWaitNoHang, 0, 0)
	pid := int(*(*int32)(unsafe.Pointer(&info[16])))
	if failed != 0 || pid == 0 {
		return false
	}
	s.mu.Lock()
	for _, p := range s.processes {
		if p.pid == pid {
			s.mu.Unlock()
			return false
		}
	}
	s.mu.Unlock()
	var status syscall.WaitStatus
	reaped, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	return err == nil && reaped == pid
}

// endAdopted kills what was adopted, and what that leaves to us.
func endAdopted() {
	for range 50 {
		left := children()
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			var status syscall.WaitStatus
			_, _ = syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// children are the processes whose parent we are.
func children() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	own := strconv.Itoa(os.Getpid())
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		// The name in parentheses may hold spaces and parentheses itself; after its end come state and parent.
		text := string(stat)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) > 1 && fields[1] == own {
			found = append(found, pid)
		}
	}
	return found
}
