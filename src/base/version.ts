/**
 * What replicas say to each other, and the commands that they know, have one version together. It is raised by one whenever there is a new kind of message between replicas, a
 * new command, or a new meaning of an old one. 1: Parley 0.1.0. 2: join tokens, messages that expire, no session that ends before what it did could be written down,
 * and a limit to the rooms that an account is in.
 */
export const newestVersion = 2
