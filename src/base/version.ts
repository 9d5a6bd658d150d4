/**
 * What replicas say to each other, and the commands that they know, have one version together. It is raised by one whenever there is a new kind of message between replicas, a
 * new command, or a new meaning of an old one. 1: Parley 0.1.0. 2: join tokens, and messages that expire.
 */
export const newestVersion = 2
