// Writes the seccomp profiles beside this folder: what containerd allows a container without capabilities, alone and with io_uring besides.
// `go run . ..` in this folder.
package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	if runtime.GOARCH != "amd64" {
		panic("run it on amd64: the profile of arm64 is derived from that of amd64")
	}
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	profile := seccomp.DefaultProfile(spec)
	// As it is, for tests of what a pod with RuntimeDefault meets.
	write("containerd-default.amd64.json", profile)
	profile.Syscalls = append(profile.Syscalls, allow("io_uring_setup", "io_uring_enter", "io_uring_register"))
	write("kthena-dataplane.amd64.json", profile)
	write("kthena-dataplane.arm64.json", forArm64(profile))
}

func allow(names ...string) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: specs.ActAllow}
}

// forArm64 does what containerd does on arm64: other architectures, and other calls that only one architecture has.
func forArm64(amd64 *specs.LinuxSeccomp) *specs.LinuxSeccomp {
	profile := *amd64
	profile.Architectures = []specs.Arch{specs.ArchARM, specs.ArchAARCH64}
	profile.Syscalls = slices.Clone(amd64.Syscalls)
	at := slices.IndexFunc(profile.Syscalls, func(call specs.LinuxSyscall) bool { return slices.Contains(call.Names, "arch_prctl") })
	profile.Syscalls[at] = allow("arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls")
	return &profile
}

func write(name string, profile *specs.LinuxSeccomp) {
	bytes, err := json.MarshalIndent(profile, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(os.Args[1], name), append(bytes, '\n'), 0o644)
	}
	if err != nil {
		panic(err)
	}
}
