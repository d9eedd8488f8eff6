module banyan.dev/supervise

go 1.24
