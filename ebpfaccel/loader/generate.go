package loader

//go:generate go tool -modfile=../../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -tags linux -target bpfel,bpfeb -go-package loader accel bpf/accel.c -- -mcpu=v3 -Wall -Werror

// The control of the tests, for machines with the byte order of most.
//go:generate clang-19 -target bpfel -O2 -g -Wall -Werror -ffile-prefix-map=testdata/= -fdebug-compilation-dir . -c testdata/naive.c -o testdata/naive.o
//go:generate llvm-strip-19 -g testdata/naive.o
