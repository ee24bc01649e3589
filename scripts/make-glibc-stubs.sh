#!/usr/bin/env bash
# Empty libraries with the names and symbol versions of an old glibc. glibc 2.34 moved libpthread, libdl and librt into
# libc and gave their functions the version GLIBC_2.34; linked first, these stubs pin the version before that, so that the
# binary also loads on older systems. The list comes from this system's libc: what has version 2.34 by default and one
# older version. Functions with several old versions are left alone: those differ in behaviour (pthread_cond_*). The same
# for libm, whose exp, log and pow got a version GLIBC_2.29 (the values are the same; only errno handling changed).
# Usage: make-glibc-stubs.sh FOLDER (Linux with glibc; with glibc before 2.34 the stubs come out empty).
set -euo pipefail
mkdir -p "$1"
cd "$1"
libc=$(gcc -print-file-name=libc.so.6)
objdump -T "$libc" | awk '
  NF >= 2 {
    name = $NF; version = $(NF - 1)
    if (name !~ /^(pthread_|sem_|dl|shm_|timer_|aio_|lio_|mq_)/) next
    if (version == "GLIBC_2.34") moved[name] = 1
    else if (version ~ /^\(GLIBC_[0-9.]+\)$/) { old[name] = substr(version, 2, length(version) - 2); versions[name]++ }
  }
  END {
    for (name in moved) if (versions[name] == 1) {
      library = "libpthread.so.0"
      if (name ~ /^dl/) library = "libdl.so.2"
      if (name ~ /^(shm_|timer_|aio_|lio_|mq_)/) library = "librt.so.1"
      print library, old[name], name
    }
  }' | sort > pins.txt
objdump -T "$(gcc -print-file-name=libm.so.6)" | awk '
  NF >= 2 {
    name = $NF; version = $(NF - 1)
    if (name !~ /^(exp|exp2|log|log2|pow|hypot|hypotf)$/) next
    if (version ~ /^GLIBC_2\.(29|[3-9][0-9])$/) moved[name] = 1
    else if (version ~ /^\(GLIBC_2\.[0-9.]+\)$/) { old[name] = substr(version, 2, length(version) - 2); versions[name]++ }
  }
  END { for (name in moved) if (versions[name] == 1) print "libm.so.6", old[name], name }' | sort >> pins.txt
for so in libpthread.so.0 libdl.so.2 librt.so.1 libm.so.6; do
  awk -v so="$so" '$1 == so { print ".globl " $3 "; .type " $3 ",@function; " $3 ": ret" }
    END { print ".section .note.GNU-stack,\"\",@progbits" }' pins.txt > "$so.s"
  awk -v so="$so" '$1 == so { names[$2] = names[$2] " " $3 ";" }
    END { for (v in names) print v " { global:" names[v] " };"; print "LONGER_STUB { local: *; };" }' pins.txt > "$so.map"
  gcc -shared -nostdlib -Wl,-soname,"$so" -Wl,--version-script="$so.map" -o "$so" "$so.s"
done
echo "glibc stubs: $(wc -l < pins.txt) functions pinned"
