// One binary that is every part of a Kubernetes control plane: it chooses by the
// name that it is called by (or by its first argument), as busybox does.
//
// Banyan's sandbox and its tests link it under the four names. No registry ships
// these programs, but each is a Go module, so they are built from source.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	if code, known := run(filepath.Base(os.Args[0])); known {
		os.Exit(code)
	}
	if len(os.Args) > 1 {
		os.Args = os.Args[1:]
		if code, known := run(filepath.Base(os.Args[0])); known {
			os.Exit(code)
		}
	}
	fmt.Fprintln(os.Stderr, "usage: controlplane {etcd|kube-apiserver|kube-controller-manager|kube-scheduler} [flags]")
	os.Exit(2)
}

// run starts the program of that name; known is false where there is none.
func run(name string) (code int, known bool) {
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
		return 0, true
	case "kube-apiserver":
		return cli.Run(apiserver.NewAPIServerCommand()), true
	case "kube-controller-manager":
		return cli.Run(controllermanager.NewControllerManagerCommand()), true
	case "kube-scheduler":
		return cli.Run(scheduler.NewSchedulerCommand()), true
	}
	return 0, false
}
