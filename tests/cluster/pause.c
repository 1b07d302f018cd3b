// The process that holds a pod's namespaces: it waits, takes in orphans and ends when told to.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) { _exit(signal == SIGTERM || signal == SIGINT ? 0 : 1); }

static void take_in(int signal) {
  (void)signal;
  while (waitpid(-1, 0, WNOHANG) > 0) {
  }
}

int main(void) {
  struct sigaction children = {.sa_handler = take_in, .sa_flags = SA_NOCLDSTOP};
  signal(SIGTERM, end);
  signal(SIGINT, end);
  sigaction(SIGCHLD, &children, 0);
  for (;;) pause();
}
