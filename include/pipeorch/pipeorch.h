/* All of libpipeorch's public interface. SPDX-License-Identifier: MIT */
#ifndef PIPEORCH_PIPEORCH_H
#define PIPEORCH_PIPEORCH_H

#include <pipeorch/client.h>
#include <pipeorch/draw.h>
#include <pipeorch/error.h>
#include <pipeorch/member.h>
#include <pipeorch/node.h>
#include <pipeorch/queue.h>
#include <pipeorch/snapshot.h>
#include <pipeorch/types.h>
#include <pipeorch/version.h>
#include <pipeorch/watch.h>
#include <pipeorch/worker.h>

#endif
