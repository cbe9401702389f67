/* The cell that an external trainer runs in: how it is made, by a launcher that is the daemon's own binary, before the program
 * begins. A trainer is not trusted with anything but the rows that it gets: it must not tell them to anybody.
 *
 * In force always, or the program does not begin:
 *   - no new privileges; an environment of a few fixed words; descriptors 0 to 6 and no others (0 to 2 lead nowhere);
 *   - Landlock: it reads and executes under /usr, /lib* and /bin and what node.yaml names, and writes nothing;
 *     it may see what kind of processor there is. The home of the
 *     node, /proc, /sys, /run, /var and other people's files are closed to it;
 *   - seccomp, a list of what is allowed: no socket of any kind is made, so there is no network; no other process is made,
 *     traced, signalled or looked into; no mount, key, module, bpf, io_uring, perf. Threads are allowed;
 *   - resource limits: memory, processor time, size of files, descriptors, no core file.
 * Where the kernel lets it: user, network, process, mount and IPC namespaces of its own, and an empty /tmp of 64 MiB (not where
 * the program or what it may read lies under /tmp).
 * Machine code made at run time (JIT) is refused unless node.yaml says `jit: true`.
 *
 *     concordatd --confine MEMORY CPU_S FILE_BYTES THREADS JIT READ.. -- PROGRAM ARGUMENT..
 *
 * The launcher says what is in force as the first frame on descriptor 3 (trainer_message.h).
 * Landlock: landlock(7); seccomp by libseccomp. Threads: the launcher has one. */
#ifndef CONCORDAT_NODE_TRAIN_CONFINE_H
#define CONCORDAT_NODE_TRAIN_CONFINE_H

/* Does not return when the program begins; else an exit code. ARGV[0] is MEMORY. */
int train_confine_main(int argc, char **argv);

#endif
