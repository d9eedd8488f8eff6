//go:build !linux

package main

// adopt does nothing: only Linux gives us what our children leave.
func (s *supervisor) adopt() {}

func endAdopted() {}
